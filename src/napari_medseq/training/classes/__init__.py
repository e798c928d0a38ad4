"""Training that configures itself where the class of whole exams is learned: its exams, its plan, its judging and its bundle."""
