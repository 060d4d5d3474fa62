"""What people look at: tables, charts, pictures, verdicts, a study's page, the views of the MLflow UI."""
