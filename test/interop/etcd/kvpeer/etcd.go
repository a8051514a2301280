package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

var errNoEtcd = errors.New("there is no etcd: `go build -o etcd go.etcd.io/etcd/server/v3` in test/interop/etcd makes one, Debian's is `apt-get install etcd-server`; then -etcd PATH, $ETCD or $PATH")

const (
	nodeCount = 3
	startMax  = 30 * time.Second
	// While there is no leader a write is tried again after so long, on each node that is left.
	tryMax = 500 * time.Millisecond
)

// etcdNode is a member and its process.
type etcdNode struct {
	id      uint64
	client  string
	argv    []string
	process *exec.Cmd
}

// etcd is a cluster of processes of its own.
type etcd struct {
	settings settings
	dir      string
	version  string
	nodes    []*etcdNode
	clients  []*clientv3.Client
}

func findEtcd(asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), "etcd"); exec.Command(beside, "--version").Run() == nil {
			return beside, nil
		}
	}
	if path, err := exec.LookPath("etcd"); err == nil {
		return path, nil
	}
	return "", errNoEtcd
}

func startEtcd(ctx context.Context, s settings) (*etcd, error) {
	binary, err := findEtcd(s.etcd)
	if err != nil {
		return nil, err
	}
	said, err := exec.Command(binary, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", binary, err)
	}
	dir := s.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "kvpeer-"); err != nil {
			return nil, err
		}
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(string(said), "etcd Version: "), "\n")
	c := &etcd{settings: s, dir: dir, version: version}
	ports, err := freePorts(2 * nodeCount)
	if err != nil {
		return nil, err
	}
	var members []string
	for i := range nodeCount {
		members = append(members, fmt.Sprintf("n%d=http://127.0.0.1:%d", i, ports[nodeCount+i]))
	}
	for i := range nodeCount {
		client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[i]), fmt.Sprintf("http://127.0.0.1:%d", ports[nodeCount+i])
		argv := []string{
			binary, "--name", fmt.Sprintf("n%d", i), "--data-dir", filepath.Join(dir, fmt.Sprintf("n%d", i)), "--log-level", "panic",
			"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
			"--initial-advertise-peer-urls", peer, "--initial-cluster", strings.Join(members, ","), "--initial-cluster-state", "new",
		}
		c.nodes = append(c.nodes, &etcdNode{client: client, argv: argv})
	}
	for _, node := range c.nodes {
		if err := node.start(); err != nil {
			c.close()
			return nil, err
		}
	}
	if _, err := c.leader(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// freePorts asks the kernel; another program might take one before etcd does, and the run then fails at once.
func freePorts(count int) ([]int, error) {
	var ports []int
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func (n *etcdNode) start() error {
	n.process = exec.Command(n.argv[0], n.argv[1:]...)
	n.process.Stderr = os.Stderr
	return n.process.Start()
}

func (n *etcdNode) kill() {
	_ = n.process.Process.Kill()
	_ = n.process.Wait()
}

func (c *etcd) name() string {
	if c.settings.lean {
		return "etcd " + c.version + ", gRPC written to the socket, one connection a client"
	}
	return "etcd " + c.version + ", clientv3"
}

func (c *etcd) close() {
	for _, each := range c.clients {
		_ = each.Close()
	}
	for _, node := range c.nodes {
		if node.process != nil && node.process.Process != nil {
			node.kill()
		}
	}
	if c.settings.dir == "" {
		_ = os.RemoveAll(c.dir)
	}
}

func (c *etcd) connect(node *etcdNode) (*clientv3.Client, error) {
	made, err := clientv3.New(clientv3.Config{Endpoints: []string{node.client}, DialTimeout: startMax, Logger: zap.NewNop()})
	if err == nil {
		c.clients = append(c.clients, made)
	}
	return made, err
}

// leader waits until every node answers and all name one leader.
func (c *etcd) leader(ctx context.Context) (*etcdNode, error) {
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	for ctx.Err() == nil {
		named := map[uint64]int{}
		for _, node := range c.nodes {
			if status, err := c.statusOf(ctx, node); err == nil {
				node.id = status.Header.MemberId
				named[status.Leader]++
			}
		}
		for _, node := range c.nodes {
			if node.id != 0 && named[node.id] == nodeCount {
				return node, nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, fmt.Errorf("etcd's nodes did not agree on a leader within %s", startMax)
}

func (c *etcd) statusOf(ctx context.Context, node *etcdNode) (*clientv3.StatusResponse, error) {
	asking, err := clientv3.New(clientv3.Config{Endpoints: []string{node.client}, DialTimeout: tryMax, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	defer asking.Close()
	ctx, cancel := context.WithTimeout(ctx, tryMax)
	defer cancel()
	return asking.Status(ctx, node.client)
}

type etcdClient struct{ client *clientv3.Client }

// client shares connections as far as the settings say.
func (c *etcd) client(i int) (client, error) {
	conns := c.settings.conns
	if conns > 0 && i >= conns && !c.settings.lean {
		return &etcdClient{c.clients[i%conns]}, nil
	}
	node := c.nodes[i%nodeCount]
	if !c.settings.spread {
		var err error
		if node, err = c.leader(context.Background()); err != nil {
			return nil, err
		}
	}
	if c.settings.lean {
		return dialGRPC(node.client)
	}
	made, err := c.connect(node)
	return &etcdClient{made}, err
}

func (c *etcdClient) put(ctx context.Context, key string, value []byte) error {
	_, err := c.client.Put(ctx, key, string(value))
	return err
}

func (c *etcdClient) read(ctx context.Context, key string) error {
	answer, err := c.client.Get(ctx, key)
	if err == nil && len(answer.Kvs) != 1 {
		return fmt.Errorf("etcd has no key %s", key)
	}
	return err
}

// killLeader ends the leader's process as a power cut would, and tells when the first write was acknowledged by the others.
func (c *etcd) killLeader(ctx context.Context) (time.Duration, error) {
	leader, err := c.leader(ctx)
	if err != nil {
		return 0, err
	}
	var left []client
	for _, node := range c.nodes {
		if node == leader {
			continue
		}
		made, err := clientv3.New(clientv3.Config{Endpoints: []string{node.client}, DialTimeout: tryMax, Logger: zap.NewNop()})
		if err != nil {
			return 0, err
		}
		defer made.Close()
		each := &etcdClient{made}
		if err := each.put(ctx, keyOf(0), []byte("before")); err != nil {
			return 0, err
		}
		left = append(left, each)
	}
	began := time.Now()
	leader.kill()
	took, err := firstWrite(ctx, began, left)
	if err != nil {
		return 0, err
	}
	return took, leader.start()
}

// firstWrite tries on each node that is left until one of them has acknowledged a write.
func firstWrite(ctx context.Context, began time.Time, left []client) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	written := make(chan time.Duration, len(left))
	for _, each := range left {
		go func() {
			for ctx.Err() == nil {
				limited, stop := context.WithTimeout(ctx, tryMax)
				err := each.put(limited, keyOf(0), []byte("after"))
				stop()
				if err == nil {
					written <- time.Since(began)
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	select {
	case took := <-written:
		return took, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("no write was acknowledged within %s of the leader's death", startMax)
	}
}
