def sparse_amplitudes(*a):
    raise NotImplementedError
