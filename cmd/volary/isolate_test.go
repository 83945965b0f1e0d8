//go:build !real

package main

// isolate is for tests with a cluster.
func isolate() {}
