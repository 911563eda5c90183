"""Bytes to facts, without TensorFlow: parse, cost, plan, fit."""
