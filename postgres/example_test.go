package postgres_test

import (
	"context"
	"log"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
)

// An order and the run that handles it become true together.
func ExampleBackend_In() { //nolint:testableexamples // it needs a server
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://app@db/app")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	backend, err := postgres.New(ctx, pool, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer backend.Close()

	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO orders (id) VALUES (17)"); err != nil {
			return err
		}
		_, err := backend.In(tx).Start(ctx, storage.Start{Run: storage.Run{
			ID: storage.NewID(time.Now()), Thread: "order 17", Entrypoint: "handle_order", Input: []byte(`17`),
		}})
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// The pool goes through PgBouncer in pool_mode transaction, LISTEN to the server itself.
func ExampleOpen_pgBouncer() { //nolint:testableexamples // it needs a server
	backend, err := postgres.Open(context.Background(), "postgres://app@bouncer:6432/app", &postgres.Options{
		ListenDSN: "postgres://app@db:5432/app",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer backend.Close()
}
