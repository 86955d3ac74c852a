"""Things that a person runs and looks at; nothing in the other packages imports them."""
