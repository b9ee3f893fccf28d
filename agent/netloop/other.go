//go:build !linux

package netloop
