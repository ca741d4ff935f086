"""Sources: declared inputs: the component, its settings, the assets and checks it makes."""
