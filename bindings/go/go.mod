module example.org/infini

go 1.19
