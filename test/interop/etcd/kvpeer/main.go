// Kvpeer is what Cairn's kv bench is measured beside, and with: the load of `cairn bench kv --beside`. Where $BENCH_NODES
// names the nodes of a Cairn cluster it loads those over HTTP; otherwise it starts a three-node etcd on loopback, its fsyncs
// on, and loads that by etcd's own client. Keys, values, clients and clocks are the same code. It prints one JSON line.
//
//	kvpeer [-seconds 3] [-bytes 256] [-via leader|spread] [-kills 0] [-conns 8] [-lean] [-keys 0] [-etcd PATH] [-dir DIR]
//
// With -lean the clients of either store write the bytes of their protocol themselves, a connection each: on two cores net/http
// and clientv3 take as much of them as the stores do.
//
// With -keys it is the other side of `cairn bench sync`: so many values are written, then a member of etcd that lost its disk
// is given the whole store again. Flags default to $BENCH_SECONDS, $BENCH_BYTES, $BENCH_VIA, $BENCH_KILLS and $BENCH_KEYS. An operation that fails ends the run without numbers.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

type settings struct {
	seconds float64
	bytes   int
	spread  bool
	kills   int
	conns   int
	keys    int
	etcd    string
	dir     string
	only    string
	lean    bool
}

// client is one user of a cluster, with a connection of its own or a share of one.
type client interface {
	put(ctx context.Context, key string, value []byte) error
	// read is linearizable, and fails where the key is not there.
	read(ctx context.Context, key string) error
}

// cluster hands out clients. At the leader, or client i at node i modulo 3.
type cluster interface {
	client(i int) (client, error)
	name() string
	close()
}

// result has the keys of `cairn bench kv --json`.
type result struct {
	Peer     string    `json:"peer"`
	Put1     rate      `json:"put1"`
	Put64    rate      `json:"put64"`
	Read1    rate      `json:"read1"`
	Read64   rate      `json:"read64"`
	KilledMs []float64 `json:"killedMs"`
}

func main() {
	var s settings
	flag.Float64Var(&s.seconds, "seconds", float64(asked("BENCH_SECONDS", 3)), "how long each of the four is measured")
	flag.IntVar(&s.bytes, "bytes", asked("BENCH_BYTES", 256), "bytes of each value")
	via := flag.String("via", os.Getenv("BENCH_VIA"), "leader: every client asks the leader; spread: clients are spread over the nodes")
	flag.IntVar(&s.kills, "kills", asked("BENCH_KILLS", 0), "times that etcd's leader is killed, after the load")
	flag.IntVar(&s.conns, "conns", 8, "connections that the clients of etcd share, which was its best here; 0: one each")
	flag.IntVar(&s.keys, "keys", asked("BENCH_KEYS", 0), "values in the store that a member copies whole; 0: puts and reads are measured")
	flag.StringVar(&s.etcd, "etcd", os.Getenv("ETCD"), "the etcd to start; one beside this program or in $PATH by default")
	flag.StringVar(&s.dir, "dir", "", "folder of etcd's data; a temporary one by default")
	flag.BoolVar(&s.lean, "lean", false, "clients that write the bytes of their protocol to a socket themselves, for both stores, instead of net/http and clientv3")
	flag.StringVar(&s.only, "only", "", "one of put1, put64, read1, read64, for a profile; all by default")
	flag.Parse()
	s.spread = *via == "spread"
	if s.seconds <= 0 || s.bytes < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: kvpeer [flags]")
		os.Exit(2)
	}
	line, err := run(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kvpeer:", err)
		if errors.Is(err, errNoEtcd) {
			os.Exit(2)
		}
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		os.Exit(1)
	}
}

// asked is what `cairn bench kv` put into the environment, or the default.
func asked(name string, otherwise int) int {
	if value, err := strconv.Atoi(os.Getenv(name)); err == nil && value >= 0 {
		return value
	}
	return otherwise
}

func run(s settings) (any, error) {
	ctx := context.Background()
	if nodes := strings.Fields(os.Getenv("BENCH_NODES")); len(nodes) > 0 {
		return load(ctx, s, &cairn{nodes: nodes, spread: s.spread, lean: s.lean})
	}
	etcd, err := startEtcd(ctx, s)
	if err != nil {
		return nil, err
	}
	defer etcd.close()
	if s.keys > 0 {
		return copyWhole(ctx, s, etcd)
	}
	line, err := load(ctx, s, etcd)
	for i := 0; err == nil && i < s.kills; i++ {
		var took time.Duration
		if took, err = etcd.killLeader(ctx); err == nil {
			line.KilledMs = append(line.KilledMs, millis(took))
		}
	}
	return line, err
}
