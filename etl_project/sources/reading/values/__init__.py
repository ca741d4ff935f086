"""Values: from the texts of a file to typed values, strictly, or as a source says that they are written."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    {
        "advice",
        "convert",
        "local_time",
        "number_forms",
        "plain",
        "time_formats",
        "value_forms",
        "value_settings",
        "value_words",
    },
)
