// Package logfiles reads the files of a published tlog-tiles log, from a folder or over HTTP.
//
// Paths are made by golang.org/x/mod/sumdb/tlog, so that they are not our own opinion of what C2SP says.
package logfiles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/tlog"
)

// A piece is never larger: a full bundle of the largest entries.
const pieceBytesMax = 256*(2+65535) + 1

// TileHeight is the number of tree levels a C2SP tile spans.
const TileHeight = 8

// Log is one published log.
type Log struct {
	dir  string // set for a folder
	base string // set for a URL, without a slash at the end
	http *http.Client
}

// Open takes a folder or an http(s) address. Nothing is read yet.
func Open(place string) *Log {
	if strings.HasPrefix(place, "http://") || strings.HasPrefix(place, "https://") {
		return &Log{base: strings.TrimRight(place, "/"), http: &http.Client{Timeout: 30 * time.Second}}
	}
	return &Log{dir: place}
}

// Remote says whether the log is read over HTTP.
func (l *Log) Remote() bool { return l.http != nil }

// Read returns the bytes at a path below the log's address; the error wraps fs.ErrNotExist where there are none.
func (l *Log) Read(path string) ([]byte, error) {
	if l.http == nil {
		return os.ReadFile(filepath.Join(l.dir, filepath.FromSlash(path)))
	}
	answer, err := l.http.Get(l.base + "/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, pieceBytesMax))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case answer.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: status %s", path, answer.Status)
	}
	return body, nil
}

// Piece returns a tile, or with level -1 an entry bundle.
func (l *Log) Piece(tile tlog.Tile) ([]byte, error) { return l.Read(Path(tile)) }

// Path of a tile below the log's address: the checksum database puts the height first and says data for entries, C2SP does not.
func Path(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", TileHeight))
	if entries, isData := strings.CutPrefix(path, "data/"); isData {
		path = "entries/" + entries
	}
	return "tile/" + path
}

// Fetcher is the same log as Tessera's own client reads it.
func (l *Log) Fetcher() (fsck.Fetcher, error) {
	if l.http == nil {
		return client.FileFetcher{Root: l.dir}, nil
	}
	address, err := url.Parse(l.base + "/")
	if err != nil {
		return nil, err
	}
	return client.NewHTTPFetcher(address, l.http)
}

// Entries splits a bundle; trailing bytes are an error.
func Entries(bundle []byte) ([][]byte, error) {
	var entries [][]byte
	for rest := bundle; len(rest) > 0; {
		if len(rest) < 2 {
			return nil, errors.New("half a length at the end")
		}
		length := int(rest[0])<<8 | int(rest[1])
		if len(rest) < 2+length {
			return nil, fmt.Errorf("entry %d has %d bytes, its length says %d", len(entries), len(rest)-2, length)
		}
		entries = append(entries, rest[2:2+length])
		rest = rest[2+length:]
	}
	return entries, nil
}

// LeafHashes is Entries, hashed: what Tessera's fsck asks for.
func LeafHashes(bundle []byte) ([][]byte, error) {
	entries, err := Entries(bundle)
	if err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(entries))
	for i, entry := range entries {
		hash := tlog.RecordHash(entry)
		hashes[i] = hash[:]
	}
	return hashes, nil
}
