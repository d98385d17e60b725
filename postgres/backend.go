package postgres

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fermata-go/fermata/internal/combine"
	"github.com/fermata-go/fermata/storage"
)

// Options change how a backend works. Nil, and the zero of a field, mean the default.
type Options struct {
	_ [0]func()

	// Schema is the PostgreSQL schema that holds fermata's tables and functions: up to 40 of a-z, 0-9
	// and _. Default "fermata". It is created if need be. Programs that are to
	// share work use the same one.
	Schema string

	// Connections is the size of the pool that [Open] makes; [New] ignores it. Default 8, or pool_max_conns of
	// the DSN. Two more are used for heartbeats and LISTEN.
	Connections int

	// Commits is how many commits may be under way at once. Default 2. More make shorter ones: good for the time that one
	// takes, bad for how many the server can do.
	Commits int

	// Heartbeat is how often a member says that it lives, MemberTimeout after how long
	// without a heartbeat others take it for dead. Defaults 2 s and 10 s.
	// MemberTimeout must be at least twice Heartbeat. A run whose process died is free for
	// others after at most MemberTimeout, and they are told within one Heartbeat more.
	Heartbeat     time.Duration
	MemberTimeout time.Duration

	// ListenDSN is the address for LISTEN, which needs a session of its own: set it if
	// the pool goes through a proxy that lends sessions per transaction. Default: as the pool.
	ListenDSN string
	// NoListen does without LISTEN.
	NoListen bool
	// PollInterval is how often, without LISTEN or while its connection is lost, watchers are
	// told that anything may have changed. Default 1 s.
	PollInterval time.Duration

	// RetryTimeout is how long a call is repeated while the server can't be reached, before it
	// returns the error. Default 30 s. Only the context limits a single attempt.
	RetryTimeout time.Duration

	// Offset is added to the server's time, at every call anew; it must not shrink. It is for tests. Members
	// live by the server's clock without it.
	Offset func() time.Duration
}

// Backend is a [storage.Backend] on PostgreSQL. Make one with [Open] or [New].
type Backend struct {
	options  Options
	pool     *pgxpool.Pool
	ownsPool bool
	instance string // names this backend in notifications, so that it ignores its own

	unnamed     atomic.Bool // no statement gets a name
	statements  sync.Map    // SQL with SCHEMA. to SQL with the name
	schemas     sync.Map    // SHA-256 of a schema to its number
	schemaCount atomic.Int64
	lanes       []*combine.Queue[*work]
	readings    *combine.Queue[*reading]

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	closing   sync.Once
	goroutine sync.WaitGroup

	members  members
	watchers watchers
}

var _ storage.Backend = (*Backend)(nil)

// Open connects to the database that dsn names (a URL or keyword=value pairs,
// see pgx), creates or migrates the schema, and returns a backend with a pool of its own.
//
// Errors: [storage.ErrInvalid], [storage.ErrSchemaTooNew], [storage.ErrForeign] if the
// schema holds something else, [storage.ErrUnsupported] for a server that can't serve, and what connecting says.
func Open(ctx context.Context, dsn string, options *Options) (*Backend, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: open: %w: %w", storage.ErrInvalid, err)
	}
	switch {
	case options != nil && options.Connections > 0:
		config.MaxConns = int32(options.Connections)
	case !strings.Contains(dsn, "pool_max_conns"):
		config.MaxConns = 8
	}
	var pool *pgxpool.Pool
	config.ShouldPing = func(ctx context.Context, p pgxpool.ShouldPingParams) bool { return silent(ctx, pool, p) }
	pool, err = pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("postgres: open: %w", err)
	}
	b, err := New(ctx, pool, options)
	if err != nil {
		pool.Close()
		return nil, err
	}
	b.ownsPool = true
	return b, nil
}

// New is [Open] with a pool that the program uses for other things, too. The
// backend never closes it. Its size limits how many calls the backend makes at once. Set its PingTimeout, so that
// connections that died without a word (a firewall forgot them) aren't waited for without end.
func New(ctx context.Context, pool *pgxpool.Pool, options *Options) (*Backend, error) {
	var o Options
	if options != nil {
		o = *options
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	b := &Backend{options: o, pool: pool, instance: storage.NewID(time.Now()).String()[16:]}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.members.init()
	// Whoever chose another mode than pgx's default knows of a proxy.
	b.unnamed.Store(pool.Config().ConnConfig.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement)
	if err := b.migrate(ctx); err != nil {
		b.cancel()
		return nil, err
	}
	b.readings = combine.New(b.runReadings)
	b.lanes = make([]*combine.Queue[*work], o.Commits)
	for i := range b.lanes {
		b.lanes[i] = combine.New(b.runGroup)
	}
	return b, nil
}

func (o *Options) complete() error {
	if o.Schema == "" {
		o.Schema = "fermata"
	}
	if err := checkSchema(o.Schema); err != nil {
		return err
	}
	if o.Commits == 0 {
		o.Commits = 2
	}
	defaults := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	defaults(&o.Heartbeat, 2*time.Second)
	defaults(&o.MemberTimeout, 5*o.Heartbeat)
	defaults(&o.PollInterval, time.Second)
	defaults(&o.RetryTimeout, 30*time.Second)
	switch {
	case o.Commits < 0 || o.Connections < 0:
		return fmt.Errorf("postgres: %w: a number is negative", storage.ErrInvalid)
	case o.Heartbeat < 0 || o.PollInterval < 0 || o.RetryTimeout < 0:
		return fmt.Errorf("postgres: %w: an interval is negative", storage.ErrInvalid)
	case o.MemberTimeout < 2*o.Heartbeat:
		return fmt.Errorf("postgres: %w: MemberTimeout %v is less than twice Heartbeat %v", storage.ErrInvalid, o.MemberTimeout, o.Heartbeat)
	case o.ListenDSN != "":
		if _, err := pgx.ParseConfig(o.ListenDSN); err != nil {
			return fmt.Errorf("postgres: %w: ListenDSN: %w", storage.ErrInvalid, err)
		}
	}
	if o.Offset == nil {
		o.Offset = func() time.Duration { return 0 }
	}
	return nil
}

// offset is what is added to the server's time, in microseconds.
func (b *Backend) offset() int64 { return b.options.Offset().Microseconds() }

// channel is the name of the channel of NOTIFY.
func (b *Backend) channel() string { return "fermata:" + b.options.Schema }

// usable is for calls that need no database: they fail as others would.
func (b *Backend) usable(ctx context.Context, what string) error {
	if b.ctx.Err() != nil {
		return fmt.Errorf("postgres: %s: %w", what, storage.ErrClosed)
	}
	return b.failed(ctx, what, ctx.Err())
}

// Now implements [storage.Backend].
func (b *Backend) Now(ctx context.Context) (now time.Time, err error) {
	c := b.call("SELECT clock_timestamp() + $1 * interval '1 microsecond'")
	c.int8(b.offset())
	err = b.read(ctx, "now", func() {}, func(_ int, r *row) error {
		now = r.time()
		return r.err
	}, c)
	return now, err
}

// Close implements [storage.Backend]. Memberships end at once. What was sent to
// the server and not yet answered may or may not be committed.
func (b *Backend) Close() error {
	b.closing.Do(func() {
		b.cancel()
		b.watchers.close()
		b.members.close(b)
		for _, lane := range b.lanes {
			lane.Close()
		}
		b.readings.Close()
		b.goroutine.Wait()
		if b.ownsPool {
			b.pool.Close()
		}
	})
	return nil
}

// connect makes a connection outside of the pool, to dsn or, if that is empty, to where the pool connects.
func (b *Backend) connect(ctx context.Context, dsn string, notified pgconn.NotificationHandler) (*pgconn.PgConn, error) {
	var settings *pgx.ConnConfig
	if dsn != "" {
		var err error
		if settings, err = pgx.ParseConfig(dsn); err != nil {
			return nil, err
		}
	} else {
		config := b.pool.Config()
		settings = config.ConnConfig.Copy()
		if config.BeforeConnect != nil {
			if err := config.BeforeConnect(ctx, settings); err != nil {
				return nil, err
			}
		}
	}
	settings.OnNotification = notified
	return pgconn.ConnectConfig(ctx, &settings.Config)
}
