"""Training that configures itself: a folder of data is read and measured, a plan follows, and a bundle is written in the time given."""
