package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// leanHTTP speaks just enough HTTP/1.1 over a connection of its own: a request is one write, its answer is read where it lies.
// What net/http does around that costs a client more than the store's nodes together, on the cores that they share.
type leanHTTP struct {
	host string
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

func dialHTTP(url string) (*leanHTTP, error) {
	host := strings.TrimPrefix(url, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	return &leanHTTP{host: host, conn: conn, in: bufio.NewReaderSize(conn, 16<<10)}, nil
}

func (c *leanHTTP) head(method, key string) {
	c.out = append(c.out[:0], method...)
	c.out = append(c.out, " /kv/"...)
	c.out = append(c.out, key...)
	c.out = append(c.out, " HTTP/1.1\r\nHost: "...)
	c.out = append(c.out, c.host...)
	c.out = append(c.out, "\r\n"...)
}

func (c *leanHTTP) put(ctx context.Context, key string, value []byte) error {
	c.head("PUT", key)
	c.out = append(c.out, "Content-Length: "...)
	c.out = strconv.AppendInt(c.out, int64(len(value)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	c.out = append(c.out, value...)
	return c.ask(ctx)
}

func (c *leanHTTP) read(ctx context.Context, key string) error {
	c.head("GET", key)
	c.out = append(c.out, "\r\n"...)
	return c.ask(ctx)
}

var lengthName = []byte("content-length:")

func (c *leanHTTP) ask(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < len("HTTP/1.1 200") {
		return fmt.Errorf("the status line is %q", line)
	}
	status := string(line[9:12])
	length := -1
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > len(lengthName) && bytes.EqualFold(line[:len(lengthName)], lengthName) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(lengthName):]))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("an answer %s without a length", status)
	}
	if status == "200" {
		_, err = c.in.Discard(length)
		return err
	}
	body := make([]byte, min(length, 300))
	if _, err = io.ReadFull(c.in, body); err != nil {
		return err
	}
	return fmt.Errorf("answered %s: %s", status, body)
}
