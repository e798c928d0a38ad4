"""Controls that several widgets share: choosers of layers, models and studies, forms, tables, keys, docked plots."""
