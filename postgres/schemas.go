package postgres

import (
	"context"
	"crypto/sha256"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fermata-go/fermata/storage"
)

// maxSchemas is how many schemas are remembered; a program that makes one per question must not grow.
const maxSchemas = 10_000

// intern returns the numbers of the questions' schemas, 0 for none. Equal ones
// are stored once; a schema that this process has seen costs nothing.
func (b *Backend) intern(ctx context.Context, questions []storage.Question) ([]int, error) {
	if len(questions) == 0 {
		return nil, nil
	}
	numbers := make([]int, len(questions))
	for i := range questions {
		data := questions[i].Schema
		if data == nil {
			continue
		}
		hash := sha256.Sum256(data)
		if n, ok := b.schemas.Load(hash); ok {
			numbers[i] = n.(int)
			continue
		}
		n, err := b.store(ctx, hash, data)
		if err != nil {
			return nil, err
		}
		if b.schemaCount.Add(1) > maxSchemas {
			b.schemas.Clear()
			b.schemaCount.Store(0)
		}
		b.schemas.Store(hash, n)
		numbers[i] = n
	}
	return numbers, nil
}

func (b *Backend) store(ctx context.Context, hash [32]byte, data []byte) (n int, err error) {
	insert := b.call("INSERT INTO SCHEMA.answer_schema (hash, data) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING")
	insert.bytes(hash[:])
	insert.bytes(data)
	find := b.call("SELECT n FROM SCHEMA.answer_schema WHERE hash = $1")
	find.bytes(hash[:])
	err = b.do(ctx, "store the schema of an answer", func(ctx context.Context, pg *pgconn.PgConn) error {
		return b.exec(ctx, pg, func(_ int, r *row) error {
			n = r.int4()
			return r.err
		}, insert, find)
	})
	if err == nil && n == 0 {
		err = b.failed(ctx, "store the schema of an answer", errNothing)
	}
	return n, err
}
