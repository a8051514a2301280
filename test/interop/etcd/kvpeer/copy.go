package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// As many small writes beside the copy as `cairn bench sync` has.
	writerCount = 4
	writerBytes = 256
	copyMax     = 10 * time.Minute
	pollPause   = 20 * time.Millisecond
)

type waits struct {
	P50Ms float64 `json:"p50Ms"`
	P99Ms float64 `json:"p99Ms"`
}

// copied has keys of `cairn bench sync --json`.
type copied struct {
	Peer                string  `json:"peer"`
	Seconds             float64 `json:"seconds"`
	PayloadMiBPerSecond float64 `json:"payloadMiBPerSecond"`
	Idle                waits   `json:"idle"`
	During              waits   `json:"during"`
}

func copyKeyOf(i int) string { return fmt.Sprintf("sync/%09d", i) }

// copyWhole fills etcd, and measures how soon a member that lost its disk has the store again, while clients write.
func copyWhole(ctx context.Context, s settings, c *etcd) (copied, error) {
	leader, err := c.leader(ctx)
	if err != nil {
		return copied{}, err
	}
	made, err := c.connect(leader)
	if err != nil {
		return copied{}, err
	}
	writing := &etcdClient{made}
	if err := fillWith(ctx, many, s.keys, func(key int) error { return writing.put(ctx, copyKeyOf(key), make([]byte, s.bytes)) }); err != nil {
		return copied{}, err
	}
	line := copied{Peer: c.name()}
	line.Idle, err = whileWriting(ctx, writing, func() error {
		time.Sleep(time.Duration(s.seconds * float64(time.Second)))
		return nil
	})
	if err != nil {
		return copied{}, err
	}
	line.During, err = whileWriting(ctx, writing, func() error {
		took, err := c.beginAnew(ctx, leader, writing)
		line.Seconds = took.Seconds()
		return err
	})
	payload := float64(s.keys * (s.bytes + len(copyKeyOf(0))))
	line.PayloadMiBPerSecond = payload / (1 << 20) / line.Seconds
	return line, err
}

// fillWith does `count` writes, `clients` at a time.
func fillWith(ctx context.Context, clients, count int, put func(key int) error) error {
	group, _ := errgroup.WithContext(ctx)
	for i := range clients {
		group.Go(func() error {
			for key := i; key < count; key += clients {
				if err := put(key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// beginAnew gives a follower's place to an empty one, and tells how long that one takes from its start to what the leader has.
func (c *etcd) beginAnew(ctx context.Context, leader *etcdNode, asking *etcdClient) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, copyMax)
	defer cancel()
	var node *etcdNode
	for _, each := range c.nodes {
		if each != leader {
			node = each
		}
	}
	node.kill()
	if _, err := asking.client.MemberRemove(ctx, node.id); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(filepath.Join(c.dir, node.flag("--name"))); err != nil {
		return 0, err
	}
	if _, err := asking.client.MemberAdd(ctx, []string{node.flag("--initial-advertise-peer-urls")}); err != nil {
		return 0, err
	}
	node.argv[len(node.argv)-1] = "existing" // behind --initial-cluster-state
	began := time.Now()
	if err := node.start(); err != nil {
		return 0, err
	}
	for ; ctx.Err() == nil; time.Sleep(pollPause) {
		theirs, err := c.statusOf(ctx, node)
		if err != nil {
			continue // it is not that far yet
		}
		ours, err := c.statusOf(ctx, leader)
		if err != nil {
			return 0, err
		}
		if theirs.RaftAppliedIndex+catchingUp >= ours.RaftAppliedIndex {
			return time.Since(began), nil
		}
	}
	return 0, fmt.Errorf("etcd's new member had not the leader's store within %s", copyMax)
}

// catchingUp is how many entries a follower under writes may be behind between two questions.
const catchingUp = 100

func (n *etcdNode) flag(name string) string {
	return n.argv[slices.Index(n.argv, name)+1]
}

// whileWriting tells what small writes wait at the leader while something goes on.
func whileWriting(ctx context.Context, c *etcdClient, work func() error) (waits, error) {
	var over atomic.Bool
	took := make([][]time.Duration, writerCount)
	group, ctx := errgroup.WithContext(ctx)
	value := []byte(strings.Repeat("w", writerBytes))
	for i := range writerCount {
		group.Go(func() error {
			for !over.Load() {
				began := time.Now()
				if err := c.put(ctx, fmt.Sprintf("writer/%d", i), value); err != nil {
					return err
				}
				took[i] = append(took[i], time.Since(began))
			}
			return nil
		})
	}
	err := work()
	over.Store(true)
	if failed := group.Wait(); err == nil {
		err = failed
	}
	all := slices.Concat(took...)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("nothing was written meanwhile")
	}
	if err != nil {
		return waits{}, err
	}
	p50, p99 := percentiles(all)
	return waits{P50Ms: p50, P99Ms: p99}, nil
}
