"""The charts of the lab, one a module, as drawings for a page and for files.

- `loss_curves`: losses over epochs, of a study's configurations and of one run.
- `latent_use`: the KL of the latent dimensions.
- `rate_distortion`: reconstruction over KL, one point a run.
- `latent_recipes`: three recipes for the latent size over one axis.
- `data_spectrum`: singular values of a data set.
- `searches`: the best of a search over the epochs it took, and the front of two objectives.
"""
