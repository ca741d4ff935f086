"""The commands of `etl`, one module each: parse arguments, call one function, print what came of it."""
