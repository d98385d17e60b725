package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/fermata-go/fermata/postgres"
)

// openPostgres makes the schema anew. The raw commit is one INSERT of 200 bytes on one connection.
func (s *system) openPostgres(ctx context.Context, dsn string) (func(), error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{
		"DROP SCHEMA IF EXISTS fermata_bench CASCADE", "DROP TABLE IF EXISTS fermata_bench_raw",
		"CREATE TABLE fermata_bench_raw (id bigserial PRIMARY KEY, data bytea)",
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
	}
	backend, err := postgres.Open(ctx, dsn, &postgres.Options{Schema: "fermata_bench"})
	if err != nil {
		return nil, err
	}
	s.backend = backend
	s.raw = func() error {
		_, err := conn.Exec(ctx, "INSERT INTO fermata_bench_raw (data) VALUES ($1)", row)
		return err
	}
	return func() { _ = conn.Close(ctx) }, nil
}
