// Transaction starts a run in a transaction of the program's own: an order and the workflow
// that delivers it come to be together, or not at all. It needs a PostgreSQL.
//
//	transaction DSN
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/postgres"
)

var deliver = fermata.NewEntrypoint("deliver", func(_ context.Context, order int) (string, error) {
	return fmt.Sprintf("order %d delivered", order), nil
})

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: transaction DSN")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "transaction:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dsn string, out io.Writer) (err error) {
	pool, err := pgxpool.New(ctx, dsn) // for the program's tables and fermata's
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS orders (number int PRIMARY KEY, goods text CHECK (goods <> ''))"); err != nil {
		return err
	}
	backend, err := postgres.New(ctx, pool, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	engine, err := fermata.New(backend, nil, deliver)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close(ctx)) }()

	chairs, err := order(ctx, pool, backend, engine, 1, "two chairs")
	if err != nil {
		return err
	}
	result, err := chairs.Result(ctx) // it was started by the commit
	if err != nil {
		return err
	}
	fmt.Fprintln(out, result)

	_, err = order(ctx, pool, backend, engine, 2, "") // no goods: the table refuses it
	fmt.Fprintln(out, "refused:", err != nil)
	state, err := deliver.On(engine).Thread("order-2").State(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "a run of it:", !state.Run.IsZero())
	return nil
}

// order takes an order and starts its delivery, both or neither.
func order(ctx context.Context, pool *pgxpool.Pool, backend *postgres.Backend, engine *fermata.Engine, number int, goods string) (run *fermata.Run[string], err error) {
	thread := deliver.On(engine).Thread(fmt.Sprintf("order-%d", number))
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if run, err = thread.Start(ctx, number, fermata.Via(backend.In(tx))); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO orders VALUES ($1, $2)", number, goods)
		return err
	})
	return run, err
}
