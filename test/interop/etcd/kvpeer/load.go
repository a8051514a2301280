package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	keyCount = 10_000
	many     = 64
	// Before the clock starts, at most half of what is measured: connections are open then, and code is compiled.
	warmUpMax = 1500 * time.Millisecond
	// An operation that takes longer has failed.
	operationMax = 10 * time.Second
)

// rate is what a number of clients got done, each doing one operation after the other.
type rate struct {
	PerSecond float64 `json:"perSecond"`
	P50Ms     float64 `json:"p50Ms"`
	P99Ms     float64 `json:"p99Ms"`
}

func keyOf(i int) string { return fmt.Sprintf("bench/%06d", i) }

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// load fills all keys, then measures writes and reads with one client and with many.
func load(ctx context.Context, s settings, c cluster) (result, error) {
	clients := make([]client, many)
	for i := range clients {
		var err error
		if clients[i], err = c.client(i); err != nil {
			return result{}, err
		}
	}
	value := make([]byte, s.bytes)
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	if err := fill(ctx, clients, value); err != nil {
		return result{}, err
	}
	put := func(ctx context.Context, c client) error { return c.put(ctx, keyOf(rand.IntN(keyCount)), value) }
	read := func(ctx context.Context, c client) error { return c.read(ctx, keyOf(rand.IntN(keyCount))) }
	line := result{Peer: c.name(), KilledMs: []float64{}}
	for _, each := range []struct {
		name    string
		into    *rate
		clients []client
		do      func(context.Context, client) error
	}{
		{"put1", &line.Put1, clients[:1], put}, {"put64", &line.Put64, clients, put},
		{"read1", &line.Read1, clients[:1], read}, {"read64", &line.Read64, clients, read},
	} {
		if s.only != "" && s.only != each.name {
			continue
		}
		measured, err := measure(ctx, time.Duration(s.seconds*float64(time.Second)), each.clients, each.do)
		if err != nil {
			return result{}, err
		}
		*each.into = measured
	}
	return line, nil
}

func fill(ctx context.Context, clients []client, value []byte) error {
	return fillWith(ctx, len(clients), keyCount, func(key int) error { return clients[key%len(clients)].put(ctx, keyOf(key), value) })
}

// measure counts what ended within the time; what began in the warm-up does not count.
func measure(ctx context.Context, length time.Duration, clients []client, do func(context.Context, client) error) (rate, error) {
	from := time.Now().Add(min(warmUpMax, length/2))
	to := from.Add(length)
	took := make([][]time.Duration, len(clients))
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range clients {
		group.Go(func() error {
			for {
				began := time.Now()
				if began.After(to) {
					return nil
				}
				limited, cancel := context.WithTimeout(ctx, operationMax)
				err := do(limited, c)
				cancel()
				if err != nil {
					return err
				}
				if ended := time.Now(); began.After(from) && ended.Before(to) {
					took[i] = append(took[i], ended.Sub(began))
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return rate{}, err
	}
	all := slices.Concat(took...)
	if len(all) == 0 {
		return rate{}, fmt.Errorf("nothing was done in %s", length)
	}
	p50, p99 := percentiles(all)
	return rate{PerSecond: float64(len(all)) / length.Seconds(), P50Ms: p50, P99Ms: p99}, nil
}

// percentiles sorts what it is given, and tells milliseconds.
func percentiles(all []time.Duration) (p50, p99 float64) {
	slices.Sort(all)
	at := func(share float64) float64 { return millis(all[int(share*float64(len(all)-1))]) }
	return at(0.5), at(0.99)
}
