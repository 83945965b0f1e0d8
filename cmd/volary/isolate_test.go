//go:build !real

package main

// isolate is for tests with a cluster.
func isolate() {}

// letGo is for sessions that mount something.
func letGo(string) {}
