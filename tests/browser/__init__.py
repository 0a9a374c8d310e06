"""Notebooks in real JupyterLab and Notebook 7, in a headless Chromium."""
