

GET/2demo/3