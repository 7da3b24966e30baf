"""How the shipped small base was made: a pipeline of its own, in `pretrain/`, with the same corpus, data and model code.

Nobody who uses stemscribe needs to run it; anybody can.
"""
