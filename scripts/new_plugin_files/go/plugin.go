// Stamps requests, denies paths and hides words in responses.
package main

import (
	"bytes"
	"strings"

	"callout.test/callout"
)

// Config is the plugin's configuration, in JSON.
type Config struct {
	Stamp string   `json:"stamp"` // the value of x-seen-by
	Deny  []string `json:"deny"`  // paths that begin so are denied
	Hide  []string `json:"hide"`  // words that clients do not see
}

// Stamp is an instance of the plugin.
type Stamp struct {
	config Config
	denied callout.Metric
}

// NewStamp makes an instance. An error refuses the configuration.
func NewStamp(setup *callout.Setup, config Config) (*Stamp, error) {
	if config.Stamp == "" {
		config.Stamp = "@name@"
	}
	setup.WantWholeBodies(1 << 20)
	if len(config.Hide) == 0 {
		setup.Skip(callout.ResponseBody)
	}
	denied, err := setup.Counter("@name@_denied_total", "Requests denied")
	return &Stamp{config, denied}, err
}

// OnRequestHeaders is called concurrently for several requests.
func (stamp *Stamp) OnRequestHeaders(call *callout.HeadersCall) error {
	for _, begin := range stamp.config.Deny {
		if strings.HasPrefix(call.Headers().Get(":path"), begin) {
			stamp.denied.Increment()
			return call.Deny(403, "this is private")
		}
	}
	call.SetHeader("x-seen-by", stamp.config.Stamp)
	call.RemoveHeader("x-internal")
	if len(stamp.config.Hide) > 0 {
		// Compressed, or cut into ranges, a body would not show its words.
		call.RemoveHeader("accept-encoding")
		call.RemoveHeader("range")
	}
	return nil
}

// OnResponseBody is not called if there is nothing to hide.
func (stamp *Stamp) OnResponseBody(call *callout.BodyCall) error {
	body := call.Body()
	hidden := body
	for _, word := range stamp.config.Hide {
		hidden = bytes.ReplaceAll(hidden, []byte(word), []byte("[hidden]"))
	}
	if !bytes.Equal(hidden, body) {
		call.SetBody(hidden)
	}
	return nil
}

func init() { callout.Register(NewStamp) }

func main() {}
