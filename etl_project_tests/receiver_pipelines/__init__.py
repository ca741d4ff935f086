"""The sources that the tests of the receiver may send to."""
