"""Where the music comes from: real songs rendered to the Slakh2100 layout, or Slakh2100 and babyslakh themselves.

Whatever the corpus, the stage leaves a folder with an `inventory.json`; everything after it is the same code.
"""
