// The plugin's logic. callout.go connects it to the host.
package main

// OnRequestHeaders is called concurrently for several requests.
func OnRequestHeaders(headers Headers) Answer {
	answer := Answer{Set: Headers{{"x-seen-by", "@name@"}}}
	if _, found := headers.Get("x-internal"); found {
		answer.Remove = append(answer.Remove, "x-internal")
	}
	return answer
}
