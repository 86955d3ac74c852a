"""Pocket's tokenizer: one token a word, clock numbers apart from badge numbers, letters for unknown words.

Clock times such as ``0:03:07`` are three tokens, ``0:``, ``03:`` and ``07``, none of which is a badge's ``7``.
"""

from __future__ import annotations

import string

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from streamvlm.models.families.pocket.attributes import ATTRIBUTE_NAMES

SPECIAL = ("<pad>", "<start>", "<ask>", "<answer>", "<end>", "<unknown>")
PAD, START, ASK, ANSWER, END, UNKNOWN = range(len(SPECIAL))

SPEECH = """
a an the is are was were do did does have has had been be can could will would i you it he she they we me my
your this that these those there here in on at of to from with and or but not no yes never none any some one
ones two all what which who whom whose where when why how many much time times moment now right left just
currently today before after next then first last ago earlier later since until again ever already still
shown show shows see seen saw look looks looking appear appeared appears appearing happen happened happens
come came comes carry carried carries wear wore hold held contain contained spot spotted notice noticed find
found give tell describe name say please thing things object objects item items picture image video stream
frame scene scenes background place zone corner side area colour color shape badge label number word text
written print printed visible behind anything something nothing everything answer question questions hello
thanks sure know remember recall during while same other another different both between following followed
previous than as by for if so think maybe perhaps probably moment ask asked second seconds minute minutes
hour hours long what's it's don't didn't
""".split()


def build_tokenizer() -> Tokenizer:
    """Makes the tokenizer from the word lists; the same every time."""
    clock = [f"{n}:" for n in range(100)] + [f"{n:02}:" for n in range(60)] + [f"{n:02}" for n in range(60)]
    punctuation = list("?.,!:;'-\"()/&%+")
    letters = list(string.ascii_lowercase + string.digits)
    pieces = [f"##{c}" for c in (*letters, *punctuation)]
    words = [*SPECIAL, *clock, *ATTRIBUTE_NAMES, *SPEECH, *punctuation, *letters, *pieces]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=SPECIAL[UNKNOWN], max_input_chars_per_word=60))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\d+:(?=\d)|[a-z0-9]+(?:[-'][a-z0-9]+)*|[^\sa-z0-9]"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return tokenizer
