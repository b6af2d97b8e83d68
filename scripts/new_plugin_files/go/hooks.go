// What the plugin decides. callout.go is how the host reaches it.
package main

// OnRequestHeaders is called for several requests at once.
func OnRequestHeaders(headers Headers) Answer {
	answer := Answer{Set: Headers{{"x-seen-by", "@name@"}}}
	if _, found := headers.Get("x-internal"); found {
		answer.Remove = append(answer.Remove, "x-internal")
	}
	return answer
}
