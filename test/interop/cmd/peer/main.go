// Peer is what Cairn's merge bench is measured beside: Tessera's POSIX log on the same machine, its fsyncs on, with its
// batching and checkpoint interval tuned, and two copies that follow it, each verified before it counts. It prints one JSON line.
//
//	peer [-entries 100000] [-warm-up 0] [-bytes 200] [-copies 2] [-batch 4096] [-age 20ms] [-checkpoint 100ms] [-dir DIR] [-keep]
//
// The clock runs from the first entry submitted after the warm-up, which every copy has by then, until the last copy holds a
// verified log under the signed checkpoint.
// A run that does not verify prints no numbers and exits 1.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"cairn.test/interop/internal/quiet"
	"golang.org/x/sync/errgroup"
)

type settings struct {
	entries    uint64
	warmUp     uint64
	bytes      int
	copies     int
	batch      uint
	age        time.Duration
	checkpoint time.Duration
	inFlight   uint
	dir        string
}

// result has the keys of `cairn bench merge --json`.
type result struct {
	Entries              uint64  `json:"entries"`
	Bytes                int     `json:"bytes"`
	Seconds              float64 `json:"seconds"`
	SignedSeconds        float64 `json:"signedSeconds"`
	EntriesPerSecond     float64 `json:"entriesPerSecond"`
	CPUMicrosPerEntry    float64 `json:"cpuMicrosPerEntry"`
	PeakMemoryBytes      int64   `json:"peakMemoryBytes"`
	Copies               int     `json:"copies"`
	BatchEntries         uint    `json:"batchEntries"`
	BatchAgeMs           int64   `json:"batchAgeMs"`
	CheckpointIntervalMs int64   `json:"checkpointIntervalMs"`
	Peer                 string  `json:"peer"`
	Verified             bool    `json:"verified"`
}

func main() {
	quiet.Logs()
	var s settings
	flag.Uint64Var(&s.entries, "entries", uint64(asked("BENCH_ENTRIES", 100_000)), "entries to append; $BENCH_ENTRIES by default")
	flag.Uint64Var(&s.warmUp, "warm-up", uint64(asked("BENCH_WARM_UP", 0)), "entries appended and copied before the clock starts; $BENCH_WARM_UP by default")
	flag.IntVar(&s.bytes, "bytes", asked("BENCH_BYTES", 200), "bytes of each entry, at least 8; $BENCH_BYTES by default")
	flag.IntVar(&s.copies, "copies", asked("BENCH_COPIES", 2), "verified copies to make; $BENCH_COPIES by default")
	flag.UintVar(&s.batch, "batch", 4096, "entries a batch at most")
	flag.DurationVar(&s.age, "age", 20*time.Millisecond, "age of a batch at most")
	flag.DurationVar(&s.checkpoint, "checkpoint", 100*time.Millisecond, "time between checkpoints; 100ms is the least it allows")
	flag.UintVar(&s.inFlight, "in-flight", 32768, "entries submitted and not yet sequenced at most")
	flag.StringVar(&s.dir, "dir", "", "folder to work in; a temporary one by default")
	keep := flag.Bool("keep", false, "leave the log and its copies there, and print the verifier key to stderr")
	flag.Parse()
	if s.bytes < 8 || s.bytes > 65535 || s.entries == 0 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: peer [flags]; want at least one entry, of 8 to 65535 bytes")
		os.Exit(2)
	}
	if err := runIn(s, *keep); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// asked is what `cairn bench merge --beside` put into the environment, or the default.
func asked(name string, otherwise int) int {
	if value, err := strconv.Atoi(os.Getenv(name)); err == nil && value >= 0 {
		return value
	}
	return otherwise
}

func runIn(s settings, keep bool) error {
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "peer-")
		if err != nil {
			return err
		}
		s.dir = dir
	}
	if !keep {
		defer func() {
			for i := -1; i < s.copies; i++ {
				os.RemoveAll(placeOf(s, i))
			}
			os.Remove(s.dir) // stays when it held anything else
		}()
	}
	line, err := run(context.Background(), s, keep)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(line)
}

func run(ctx context.Context, s settings, keep bool) (result, error) {
	key, err := newKey()
	if err != nil {
		return result{}, err
	}
	if keep {
		fmt.Fprintln(os.Stderr, key.vkey)
	}
	var began time.Time
	var before used
	var signed time.Duration
	var warm sync.WaitGroup
	warm.Add(s.copies)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := appendAll(ctx, s, key, func() {
			warm.Wait()
			began, before = time.Now(), usage()
		})
		signed = time.Since(began)
		return err
	})
	group.Go(func() error { return copyAll(ctx, s, key, warm.Done) })
	if err := group.Wait(); err != nil {
		return result{}, err
	}
	took := time.Since(began)
	after := usage()
	return result{
		Entries: s.entries, Bytes: s.bytes,
		Seconds: took.Seconds(), SignedSeconds: signed.Seconds(),
		EntriesPerSecond:  float64(s.entries) / took.Seconds(),
		CPUMicrosPerEntry: float64((after.cpu - before.cpu).Microseconds()) / float64(s.entries),
		PeakMemoryBytes:   after.peakBytes,
		Copies:            s.copies,
		BatchEntries:      s.batch, BatchAgeMs: s.age.Milliseconds(), CheckpointIntervalMs: s.checkpoint.Milliseconds(),
		Peer: "tessera v1.0.4 posix", Verified: true,
	}, nil
}

// placeOf names the folder of the log (-1) or of a copy.
func placeOf(s settings, copy int) string {
	if copy < 0 {
		return filepath.Join(s.dir, "log")
	}
	return filepath.Join(s.dir, fmt.Sprintf("copy%d", copy))
}

type used struct {
	cpu       time.Duration
	peakBytes int64
}

func usage() used {
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return used{}
	}
	return used{
		cpu:       time.Duration(self.Utime.Nano() + self.Stime.Nano()),
		peakBytes: self.Maxrss * 1024, // Linux counts it in KiB
	}
}
