"""MLflow as the control plane. Of all our code this package alone knows it; `registry` is its door."""
