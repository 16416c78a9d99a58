"""What features are worth: classifiers that are cheap to fit, on features that stay as they are.

Functions of arrays: whoever made the features, and of what, is not known here. Every method tries a
range of choices, is fit on the training split, chosen on the validation split and reported on the
test split; see ``sweep.Sweep``.
"""
