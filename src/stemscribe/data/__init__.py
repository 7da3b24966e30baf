"""Corpora become an index (who plays which notes where) and shards (16 kHz audio for random access).

slakh.py reads the folder layout, errata.py applies what is known to be wrong. survey.py visits every track with them,
duplicates.py finds songs that two splits share, index.py keeps the outcome. sharding.py writes the audio, shards.py reads
it, and crops.py cuts training examples from it.
"""
