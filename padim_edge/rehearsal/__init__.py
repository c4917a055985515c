"""Rehearsal: how visible a defect must be for a model to find it, measured with defects drawn on good images."""
