"""The reference as a witness: the wheel yourmt3, in an environment of its own, against our model. `python -m witness`."""
