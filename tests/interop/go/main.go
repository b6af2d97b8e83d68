// SPDX-License-Identifier: Apache-2.0

// The checks of ../README.md with grpc-go: `client ADDRESS [CA_FILE]`.
package main

import (
	"fmt"
	"log"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

var checks = []struct {
	name string
	run  func(*grpc.ClientConn) error
}{
	{"process", process},
	{"large-bodies", largeBodies},
	{"streams-at-once", streamsAtOnce},
	{"cancel", cancel},
	{"deadline", deadline},
	{"unknown-method", unknownMethod},
	{"health-check", healthCheck},
	{"health-watch", healthWatch},
	{"metadata", metadataArrives},
	{"compression", compression},
	{"message-too-large", messageTooLarge},
	{"reflection", reflection},
}

func connect(arguments []string) (*grpc.ClientConn, error) {
	if len(arguments) == 1 {
		return grpc.NewClient(arguments[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	tls, err := credentials.NewClientTLSFromFile(arguments[1], "")
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(arguments[0], grpc.WithTransportCredentials(tls))
}

func main() {
	fmt.Println("client grpc-go", grpc.Version)
	connection, err := connect(os.Args[1:])
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	failed := 0
	for _, check := range checks {
		if err := check.run(connection); err != nil {
			failed = 1
			fmt.Printf("FAILED %s: %.300s\n", check.name, strings.Join(strings.Fields(err.Error()), " "))
		} else {
			fmt.Println("ok", check.name)
		}
	}
	os.Exit(failed)
}
