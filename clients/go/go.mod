module github.com/adamd/adamd/clients/go

go 1.19
