"""``streamvlm models``."""

from __future__ import annotations

import click

from streamvlm.cli.group import main


@main.command("models")
@click.argument("name", required=False)
def _models(name: str | None) -> None:
    """List the model families and the checkpoints on this machine; with NAME, what a stream's memory takes.

    NAME is a directory, a hub name, or one of the configurations that come along; no weights are needed.
    """
    from importlib.metadata import requires, version

    from streamvlm.models.checkpoints import CONFIGS, FAMILIES, find_checkpoints

    if name is not None:
        _tell_footprint(name)
        return
    tested = next(line for line in requires("streamvlm") or () if line.startswith("transformers"))
    print(f"families: {', '.join(FAMILIES)}; tested with {tested}, here is {version('transformers')}")
    print(f"configurations without weights: {', '.join(sorted(path.name for path in CONFIGS.iterdir()))}")
    for found in find_checkpoints():
        print(f"{found.name:<24} {found.family:<10} {found.n_bytes / 1e6:6.1f} MB  {found.folder}")


def _tell_footprint(name: str) -> None:
    from streamvlm.models.registry import footprint_of

    for dtype in ("float32", "bfloat16"):
        frame = footprint_of(name, dtype)
        layout = frame.layout
        print(f"{name}, {dtype}: {layout.n_layers} layers of {layout.n_kv_heads} KV heads of {layout.head_dim}")
        for fidelity, n_tokens in (("clear", frame.clear_tokens), ("fuzzy", frame.fuzzy_tokens)):
            n_bytes = n_tokens * layout.token_bytes
            print(
                f"  {fidelity}: {n_tokens} tokens, {n_bytes / 2**20:.2f} MiB a frame, "
                f"{3600 * n_bytes / 2**30:.1f} GiB an hour at 1 frame/s if all were kept so"
            )
