

GET/2demo/2