package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// leanGRPC is the same for etcd: gRPC's frames over a connection of its own, one call after the other, without its goroutines.
type leanGRPC struct {
	conn      net.Conn
	out       *bufio.Writer
	framer    *http2.Framer
	authority string
	stream    uint32
	unacked   uint32
	head      []byte
	message   []byte
}

const (
	putPath   = "/etcdserverpb.KV/Put"
	rangePath = "/etcdserverpb.KV/Range"
	// As much data is taken before its window is given back.
	windowStep = 16 << 10
	// Of etcd's messages: field 1 and 2, of bytes.
	field1, field2 = 0x0a, 0x12
)

func dialGRPC(url string) (*leanGRPC, error) {
	host := strings.TrimPrefix(url, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	c := &leanGRPC{conn: conn, out: bufio.NewWriter(conn), authority: host}
	c.framer = http2.NewFramer(c.out, bufio.NewReaderSize(conn, 16<<10))
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.SetReuseFrames()
	if _, err := c.out.WriteString(http2.ClientPreface); err != nil {
		return nil, err
	}
	if err := c.framer.WriteSettings(); err != nil {
		return nil, err
	}
	return c, c.out.Flush()
}

func (c *leanGRPC) put(ctx context.Context, key string, value []byte) error {
	c.begin(key)
	c.message = append(c.message, field2)
	c.message = binary.AppendUvarint(c.message, uint64(len(value)))
	c.message = append(c.message, value...)
	_, err := c.call(ctx, putPath)
	return err
}

func (c *leanGRPC) read(ctx context.Context, key string) error {
	c.begin(key)
	answer, err := c.call(ctx, rangePath)
	if err == nil && !hasValue(answer) {
		return fmt.Errorf("etcd has no key %s", key)
	}
	return err
}

// hasValue looks behind five bytes of gRPC's own and the answer's header, which is short.
func hasValue(answer []byte) bool {
	const header = 5
	if len(answer) < header+2 || answer[header] != field1 {
		return false
	}
	next := header + 2 + int(answer[header+1])
	return next < len(answer) && answer[next] == field2
}

// begin starts a message: five bytes of gRPC's own, and the key.
func (c *leanGRPC) begin(key string) {
	c.message = append(c.message[:0], 0, 0, 0, 0, 0, field1)
	c.message = binary.AppendUvarint(c.message, uint64(len(key)))
	c.message = append(c.message, key...)
}

// fields without an index: the same bytes for every call.
func (c *leanGRPC) headers(path string) []byte {
	c.head = c.head[:0]
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", c.authority},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		c.head = append(c.head, 0, byte(len(field[0])))
		c.head = append(c.head, field[0]...)
		c.head = append(c.head, byte(len(field[1])))
		c.head = append(c.head, field[1]...)
	}
	return c.head
}

func (c *leanGRPC) call(ctx context.Context, path string) ([]byte, error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	binary.BigEndian.PutUint32(c.message[1:5], uint32(len(c.message)-5))
	c.stream += 2
	id := c.stream - 1
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.headers(path), EndHeaders: true}); err != nil {
		return nil, err
	}
	if err := c.framer.WriteData(id, true, c.message); err != nil {
		return nil, err
	}
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	var answer []byte
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return nil, err
		}
		switch frame := frame.(type) {
		case *http2.DataFrame:
			answer = append(answer, frame.Data()...)
			if err := c.giveBack(frame.Length); err != nil {
				return nil, err
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamEnded() {
				return answer, statusOf(frame)
			}
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = c.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = c.framer.WritePing(true, frame.Data)
			}
		case *http2.GoAwayFrame, *http2.RSTStreamFrame:
			return nil, io.ErrUnexpectedEOF
		}
		if err == nil {
			err = c.out.Flush()
		}
		if err != nil {
			return nil, err
		}
	}
}

func (c *leanGRPC) giveBack(bytes uint32) error {
	c.unacked += bytes
	if c.unacked < windowStep {
		return nil
	}
	step := c.unacked
	c.unacked = 0
	return c.framer.WriteWindowUpdate(0, step)
}

func statusOf(frame *http2.MetaHeadersFrame) error {
	for _, field := range frame.RegularFields() {
		if field.Name == "grpc-status" && field.Value != "0" {
			return fmt.Errorf("etcd answered %v", frame.RegularFields())
		}
	}
	return nil
}
