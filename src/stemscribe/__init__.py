"""stemscribe: one pretrained transcriber (YourMT3+) turned into four stem specialists: bass, drums, vocals, other.

The pipeline is the table of contents: the DVC stage `finetune_bass` runs `stages/finetune.py`, which reads `finetune:` and
`stems.bass:` from params.yaml. Imports point one way:

    config, audio -> notes -> model -> data, scoring -> transcriber, training -> stages, cli
"""

__version__ = "0.1.0"
