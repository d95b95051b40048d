"""A blinded reader study of Grad-CAM against DT Grad-CAM: the form, its key, and what filled forms say."""
