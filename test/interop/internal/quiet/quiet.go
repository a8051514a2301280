// Package quiet keeps the libraries' log lines off our output, where each line is an answer.
package quiet

import (
	"flag"

	"k8s.io/klog/v2"
)

// Logs turns klog off; errors reach us as values anyway.
func Logs() {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"logtostderr": "false", "alsologtostderr": "false", "stderrthreshold": "FATAL"} {
		if err := flags.Set(name, value); err != nil {
			panic(err)
		}
	}
	klog.SetOutput(discard{})
}

type discard struct{}

func (discard) Write(text []byte) (int, error) { return len(text), nil }
