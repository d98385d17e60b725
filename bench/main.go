// Command bench measures fermata's workloads beside the raw limit of the same
// disk, in one run, and prints one table of ratios.
//
//	go run ./bench                         # memory and SQLite
//	go run ./bench -postgres private       # and PostgreSQL: a cluster of its own, gone afterwards
//	go run ./bench -postgres DSN           # the same on a running server; its schema "fermata_bench" is made anew
//	go run ./bench -only W1,W2 -backends sqlite
//
// The private cluster needs PostgreSQL's programs on the machine, nothing that runs: it
// is made with initdb's and the server's defaults, fsync on, in the system's temporary directory.
//
// Every result is checked; a wrong one ends the program. W1 to W6 are the
// workloads that docs/performance.md describes.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/fermata-go/fermata/internal/pgtest"
)

func main() {
	log.SetFlags(0)
	only := flag.String("only", "", "workloads to run, as W1,W2; empty: all")
	backends := flag.String("backends", "memory,sqlite", "backends to run")
	dsn := flag.String("postgres", "", "adds the backend postgres: the connection string of a server, or \"private\" for one that is started")
	dir := flag.String("dir", "", "directory on the disk to measure; empty: the system's temporary one")
	rounds := flag.Int("rounds", 3, "how often each figure is taken; the median is printed")
	profile := flag.String("cpuprofile", "", "write a CPU profile to this file")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			log.Fatal(err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			log.Fatal(err)
		}
		defer pprof.StopCPUProfile()
	}
	names := strings.Split(*backends, ",")
	if *dsn != "" {
		names = append(names, "postgres")
	}
	wanted := func(w string) bool { return *only == "" || slices.Contains(strings.Split(*only, ","), w) }
	if *dsn == "private" {
		server, err := pgtest.New()
		if err != nil {
			log.Fatalf("start a private PostgreSQL: %v", err)
		}
		defer server.Close() // if the program ends otherwise it is gone, too
		*dsn = server.DSN()
	}
	b := &bench{ctx: context.Background(), dir: *dir, dsn: *dsn, rounds: *rounds}
	fmt.Printf("%-4s %-9s %-34s %12s %12s %8s\n", "", "backend", "what", "figure", "raw", "ratio")
	for _, name := range names {
		for _, w := range workloads {
			if !wanted(w.name) {
				continue
			}
			if err := w.run(b, name); err != nil {
				log.Fatalf("%s on %s: %v", w.name, name, err)
			}
		}
	}
}
