"""The visits of a patient: their order and dates, comparing them side by side or one over another, and carrying masks between them."""
