#!/bin/sh
# Replace the database by a dump, in one transaction: the old rows stay if anything fails. libpq's variables say
# where it is. Usage: restore.sh DUMP FOLDER (one that can be written, for the dump as SQL)
set -eu
pg_restore --no-owner --no-privileges --file="$2/mlflow.sql" "$1"
# The whole schema goes first: tables of a newer MLflow would otherwise outlive the restore.
psql --quiet --no-psqlrc --single-transaction --set=ON_ERROR_STOP=1 \
    --command='drop schema public cascade' --command='create schema public' --file="$2/mlflow.sql"
rm "$2/mlflow.sql"
echo "the database is as in $1; run Job mlflow-schema if this MLflow is newer than the dump"
