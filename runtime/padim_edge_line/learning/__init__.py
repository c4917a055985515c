"""Learning from the line: marked images become a proposal for a better model, which a person may promote.

This needs the extra `update` for making a proposal, and nothing besides the line for promoting one.
"""
