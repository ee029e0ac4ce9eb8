"""Evaluation of models by tasks whose right answers are known: asking, checking, figures, a picture."""
