package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// cairn is a running cluster, by the URLs of its nodes; the leader's is the first.
type cairn struct {
	nodes  []string
	spread bool
	lean   bool
}

type httpClient struct {
	http *http.Client
	url  string
}

func (c *cairn) name() string {
	if c.lean {
		return "cairn, HTTP/1.1 written to the socket, one connection a client"
	}
	return "cairn, net/http, one keep-alive connection a client"
}

func (c *cairn) close() {}

func (c *cairn) client(i int) (client, error) {
	node := c.nodes[0]
	if c.spread {
		node = c.nodes[i%len(c.nodes)]
	}
	if c.lean {
		return dialHTTP(node)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 1, MaxConnsPerHost: 1, DisableCompression: true, IdleConnTimeout: time.Minute}
	return &httpClient{http: &http.Client{Transport: transport}, url: node + "/kv/"}, nil
}

func (c *httpClient) put(ctx context.Context, key string, value []byte) error {
	return c.ask(ctx, http.MethodPut, key, bytes.NewReader(value))
}

func (c *httpClient) read(ctx context.Context, key string) error {
	return c.ask(ctx, http.MethodGet, key, nil)
}

func (c *httpClient) ask(ctx context.Context, method, key string, body io.Reader) error {
	request, err := http.NewRequestWithContext(ctx, method, c.url+key, body)
	if err != nil {
		return err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s answered %d: %.300s", method, c.url+key, answer.StatusCode, got)
	}
	return nil
}
