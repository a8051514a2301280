// Linearizable reads a history of key-value operations from stdin, one JSON object a line, and says with Porcupine whether
// there is an order in which one copy of each key would have answered like that. It exits 1, naming the key, where there is none.
//
// A line is {"client","op","key","value","expected","out","call","return"}: put writes value; get answered out, null for
// no such key; cas wrote value because the key held expected, or failed because it did not; delete removed the key. Times are
// nanoseconds; a return of null is an operation whose outcome nobody knows: it may take effect at any time, or never.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

type line struct {
	Client   int     `json:"client"`
	Op       string  `json:"op"`
	Key      string  `json:"key"`
	Value    *string `json:"value"`
	Expected *string `json:"expected"`
	Out      *string `json:"out"`
	Failed   bool    `json:"failed"`
	Call     int64   `json:"call"`
	Return   *int64  `json:"return"`
}

// absent stands for a key that is not there; no value of the test is empty.
const absent = ""

func text(s *string) string {
	if s == nil {
		return absent
	}
	return *s
}

// checkMax bounds the search: a history of this test takes seconds.
const checkMax = 5 * time.Minute

func main() {
	perKey := map[string][]porcupine.Operation{}
	count := 0
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			fail(2, "line %d: %v", count+1, err)
		}
		end := int64(math.MaxInt64)
		if l.Return != nil {
			end = *l.Return
		}
		perKey[l.Key] = append(perKey[l.Key], porcupine.Operation{ClientId: l.Client, Input: l, Call: l.Call, Output: l, Return: end})
		count++
	}
	if err := scanner.Err(); err != nil {
		fail(2, "%v", err)
	}
	if count == 0 {
		fail(2, "no operation on stdin")
	}
	model := porcupine.Model{Init: func() any { return absent }, Step: step}
	for key, history := range perKey {
		switch porcupine.CheckOperationsTimeout(model, history, checkMax) {
		case porcupine.Illegal:
			fail(1, "key %s: its %d operations have no order", key, len(history))
		case porcupine.Unknown:
			fail(2, "key %s: %d operations took longer than %s to check", key, len(history), checkMax)
		}
	}
	fmt.Printf("{\"operations\":%d,\"keys\":%d,\"linearizable\":true}\n", count, len(perKey))
}

// step says whether the answer fits the state, and what the state is then.
func step(state, input, _ any) (bool, any) {
	held := state.(string)
	l := input.(line)
	known := l.Return != nil
	switch l.Op {
	case "put":
		return true, text(l.Value)
	case "delete":
		return true, absent
	case "get":
		return held == text(l.Out), held
	case "cas":
		fits := held == text(l.Expected)
		if !known {
			if fits {
				return true, text(l.Value)
			}
			return true, held
		}
		if l.Failed {
			return !fits, held
		}
		return fits, text(l.Value)
	}
	return false, state
}

func fail(status int, format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(status)
}
